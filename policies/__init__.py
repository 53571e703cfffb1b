"""The policy decision point (PDP): what a decision is made of, as pure values.

Actions, labels, verdicts, capabilities, packs, forms, the Rego bundle and the engines that evaluate it.
Not here: any clock, database, socket or thread outside the engine adapters, and any knowledge of `gateway`.
"""
