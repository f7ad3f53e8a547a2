"""The one ancestor of every error that a user can cure."""


class Sid2Error(Exception):
    """Something a user can put right; the message says what was found, expected, and the cure.

    A stage that ends with one prints the message alone. Any other exception is a defect of the
    program and keeps its traceback.
    """
