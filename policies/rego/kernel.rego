# The shipped rules. Each has a name, which begins its reasons; `[policy] unsafe_without = ["NAME"]` switches it off.
# What no setting may waive (a capability, a proof, a budget, a flow) is not here: it is typed Python.
package pratique.kernel

# spend: money moves only with a person's yes.
ask contains "spend: this call spends money" if {
	input.effect == "spend"
	not "spend" in input.without
}

# destructive: what cannot be undone happens only with a person's yes.
ask contains "destructive: this call cannot be undone" if {
	input.effect == "destructive"
	not "destructive" in input.without
}

# untrusted-command: nothing that may come from a stranger is run, and no person is asked to read code in a hurry.
deny contains reason if {
	some argument in input.arguments
	argument.role == "command"
	argument.integrity == "untrusted"
	not "untrusted-command" in input.without
	reason := sprintf("untrusted-command: nothing proves where %s comes from", [argument.path])
}
