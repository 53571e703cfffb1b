"""The steps of the corridor, a file each: `definition` to `confinement` decide, `commit` and `settle` are ledger units.

A stage gets the case and returns it with one thing learned; it looks at no table and no clock, and at no other stage.
`refuse` is the unit of a denial, `evidence` how all of them read in the log.
"""
