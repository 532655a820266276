"""A progress listener that records what it is told."""

from keras_advdef.core.progress import Progress


class Told(Progress):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)
