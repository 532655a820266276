import threading

import numpy as np

from keras_advdef.attacks import PGD
from keras_advdef.core.meter import meter


def test_counts_traces_once_and_rows_of_every_step(net, images, labels):
    attack = PGD(0.001, steps=3)
    counted = []
    for _ in range(2):
        tracing, rows = meter.tracing, meter.rows
        attack.generate(net, images, labels, stop_early=True, verbose=0)
        counted.append((meter.tracing - tracing, meter.rows - rows))
    standing = int((net.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    for _, rows in counted:
        # Blocks are filled up; wrong images leave at once.
        assert 3 * standing <= rows <= 3 * len(images)
    assert counted[0][0] > 0.0
    assert counted[1][0] == 0.0


def test_threads_count_for_themselves():
    def count():
        meter.rows += 5
        seen.append(meter.rows)

    before, seen = meter.rows, []
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    assert seen == [5]
    assert meter.rows == before
    assert np.isfinite(meter.tracing)
