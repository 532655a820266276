"""What a renderer makes of Markdown."""

from markdown_it import MarkdownIt


def rendered(markdown):
    """The tokens that a renderer finds, GitHub's tables and strikes among them."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)


def only_text(inline):
    """The text of a token in which nothing else may be."""
    assert {child.type for child in inline.children} <= {"text"}
    return "".join(child.content for child in inline.children)
