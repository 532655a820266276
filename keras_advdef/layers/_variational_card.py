"""The card that all variational layers share."""

from keras_advdef.core.cards import Break, DefenceCard


def variational_card(summary: str) -> DefenceCard:
    """Returns the card that all variational layers share.

    Args:
        summary: What the layer does, in one sentence.

    Returns:
        The card.
    """
    return DefenceCard(
        summary=summary,
        category="randomization",
        paper="Liu, Li, Wu, Hsieh: Adv-BNN: Improved Adversarial Defense through "
        "Robust Bayesian Neural Network, ICLR 2019",
        claim="Networks with random weights, adversarially trained, resist PGD better "
        "than adversarially trained ordinary ones.",
        standing="weakened",
        breaks=(
            Break(
                attack="EOT",
                result="with gradients averaged over draws of the weights, there is no "
                "strong evidence of more robustness than from adversarial training",
                source="Zimmermann 2019, Comment on Adv-BNN, arXiv 1907.00895",
            ),
        ),
        eot_samples=20,
        attacks=("PGD", "APGD"),
        training_cost="one pass with twice the variables; two products with a kernel "
        "for the estimators flipout and local_reparameterization",
        inference_cost="as training, times the number of averaged predictions",
    )
