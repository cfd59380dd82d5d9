r"""The one filter for text that servers send: what could act on a terminal or deceive the eye is shown instead.

Text of a server ends up in terminals, logs and error messages. An escape sequence there moves the cursor or sets the
clipboard, a bidirectional control shows a command in another order than it runs in, a tag character says something to
a language model that its user does not see. Each of them becomes an escape like `\x1b` or `\u202e`; the letters of any
language, emoji and their joiners stay as they are.
"""

import re

# A message of one line, with room for what stands around it.
LINE_LIMIT = 200

ACTIVE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u2028\u2029"  # line and paragraph separator
    "\ud800-\udfff"  # lone surrogates: nothing can print them
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    "\U000e0000-\U000e007f"  # tags: text that no one sees
    "]"
)
LINE_BREAKS = str.maketrans({"\n": "\\n", "\t": "\\t"})


def inert(text: str) -> str:
    """`text` with every active character as an escape; newlines and tabs stay."""
    return ACTIVE.sub(as_escape, text)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` on one line, inert, and cut with `…` where it is longer than `limit` characters."""
    # An escape is never shorter than what it stands for: one character too many is enough to see that it is cut.
    line = inert(text[: limit + 1]).translate(LINE_BREAKS)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def inert_json(document: str) -> str:
    """The same JSON value as `document`, with every active character as JSON's own escape."""
    return ACTIVE.sub(as_json_escape, document)


def as_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def as_json_escape(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\r":  # JSON has it between tokens alone, where a space says as much
        return " "
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
