"""The approval desk: the card a person is shown, the words it is read in, the ticket, and what a yes is good for."""
