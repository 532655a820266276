import numpy as np

from keras_advdef.attacks import FGSM
from keras_advdef.attacks._job import Job


def test_batches_cover_every_row_once(net, images):
    job = Job(FGSM(0.1), net, images, None, batch_size=4, seed=0)
    rows = np.concatenate([np.arange(6)[each] for each in job.slices()])
    np.testing.assert_array_equal(rows, np.arange(6))
    assert job.batch(job.slices()[-1]).shape == (4, 8, 8, 1)
    np.testing.assert_array_equal(job.labels, np.argmax(net(images), axis=-1))
