import keras
import pytest

from keras_advdef.training.wasserstein_gan import check_no_loss, checked_optimizers


def test_the_second_is_a_copy_of_the_first():
    first, second = checked_optimizers("GAN", keras.optimizers.SGD(0.25), None)
    assert second is not first
    assert second.get_config() == first.get_config()


def test_the_papers_settings():
    for each in checked_optimizers("GAN", None, None):
        config = each.get_config()
        assert isinstance(each, keras.optimizers.Adam)
        assert float(config["learning_rate"]) == pytest.approx(1e-4)
        assert (config["beta_1"], config["beta_2"]) == (0.5, 0.9)


def test_one_object_is_not_two():
    one = keras.optimizers.SGD()
    with pytest.raises(ValueError, match="`GAN` expects `critic_optimizer`"):
        checked_optimizers("GAN", one, one)


def test_a_loss_is_refused():
    check_no_loss("GAN", {"loss": None, "jit_compile": True})
    with pytest.raises(ValueError, match="`GAN` expects `metrics` to be left out"):
        check_no_loss("GAN", {"metrics": ["accuracy"]})
