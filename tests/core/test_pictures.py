import base64

from matplotlib.figure import Figure

from keras_advdef.core.pictures import data_url, figure_url


def _content(url):
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(content)


def test_data_url():
    assert _content(data_url(lambda file: file.write(b"\x00png"))) == b"\x00png"


def test_figure_url_has_the_size_asked_for():
    content = _content(figure_url(Figure(figsize=(2, 1)), dpi=50))
    assert content.startswith(b"\x89PNG")
    width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
    assert (width, height) == (100, 50)
