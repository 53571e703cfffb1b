"""One file per revision; each is frozen once it has shipped."""
