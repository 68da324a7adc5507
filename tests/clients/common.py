"""What the test passes to every Python client: where the server is, and what to embed."""

import json
import os

URL = os.environ["TENON_URL"]
MODEL = os.environ["TENON_MODEL"]
TEXTS = json.loads(os.environ["TENON_TEXTS"])


def report(vectors):
    """Prints the vectors as the last line, which the test compares."""
    print(json.dumps([list(map(float, vector)) for vector in vectors]))


def expect_error(error_type, call):
    """Calls and returns the error that it must raise."""
    try:
        call()
    except error_type as error:
        return error
    raise AssertionError(f"{error_type.__name__} was not raised")
