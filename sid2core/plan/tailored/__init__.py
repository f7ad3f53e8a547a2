"""A preset for the user's own data: what the data are, what the machine does, what follows."""
