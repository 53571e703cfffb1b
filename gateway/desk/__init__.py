"""Where people are asked: the card that they are shown, their tickets, and their answers.

Not where they come in: the edges say who is an operator. Not where a yes counts: the commit of the exact call uses it up.
"""
