"""Markdown as a renderer reads it."""

from markdown_it import MarkdownIt


def rendered(markdown):
    """The renderer's tokens, with GitHub's tables and strikethrough."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)


def only_text(inline):
    """The text of a token that must hold nothing else."""
    assert {child.type for child in inline.children} <= {"text"}
    return "".join(child.content for child in inline.children)
