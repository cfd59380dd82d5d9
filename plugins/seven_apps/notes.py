"""What the servers say to have done, in a file that is there when they are not any more."""

import os


def leave(note: str) -> None:
    """Append the note to the file that the environment variable `WITNESS` names."""
    with open(os.environ["WITNESS"], "a") as file:
        file.write(f"{note}\n")
