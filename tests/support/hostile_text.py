"""Texts with markup for Markdown, HTML, matplotlib or a terminal."""

HOSTILE_TEXT = (
    "</td></table><script>alert(1)</script> <img src=x onerror=alert(2)>",
    "\" onmouseover='alert(3)' {{ 7 * 7 }} {% raw %}",
    "a | b \\| c \\\\| d \\",
    "# one\n## two\n\n- three\n1. four\n> five\n\n    six\n---\n===\n\n| a |\n| - |\n",
    "*a* **b** _c_ __d__ ~e~ ~~f~~ `g` ``h`` *_i_*",
    "[a](javascript:alert(4)) ![b](http://c) [d][e] [e]: http://f [^g] \\[h](i)",
    "<http://j> https://k.l www.m.n &lt;b&gt; &#60; &copy;",
    "$\\frac{$ $x$ $$y$$ \\$",
    "[bold]o[/bold] [link=http://p]q[/link] \x1b[31m \x1b]8;;http://r\x07 \x9b2J \x00",
    "\u202egnp.exe \u200b \ufeff \udcff \r\x85\u2028\u2029",
    "_trailing_ #",
)
