package pratique.kernel_test

import data.pratique.kernel

test_a_plain_write_is_neither_asked_nor_denied if {
	count(kernel.ask) == 0 with input.effect as "write" with input.arguments as [] with input.without as []
	count(kernel.deny) == 0 with input.effect as "write" with input.arguments as [] with input.without as []
}

test_spending_asks if {
	kernel.ask == {"spend: this call spends money"} with input.effect as "spend" with input.without as []
}

test_destroying_asks if {
	kernel.ask == {"destructive: this call cannot be undone"} with input.effect as "destructive" with input.without as []
}

test_an_untrusted_command_is_denied if {
	command := {"path": "/script", "role": "command", "integrity": "untrusted"}
	denied := kernel.deny with input.arguments as [command] with input.without as []
	denied == {"untrusted-command: nothing proves where /script comes from"}
}

test_a_trusted_command_is_not_denied if {
	command := {"path": "/script", "role": "command", "integrity": "trusted"}
	count(kernel.deny) == 0 with input.arguments as [command] with input.without as []
}

test_a_rule_that_is_switched_off_is_silent_and_alone if {
	count(kernel.ask) == 0 with input.effect as "spend" with input.without as ["spend"]
	count(kernel.ask) == 1 with input.effect as "destructive" with input.without as ["spend"]
}
