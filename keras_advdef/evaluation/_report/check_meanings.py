"""What each sanity check asks, for readers."""

CHECK_MEANINGS = {
    "better_than_chance": ("Does the model do better than guessing?"),
    "accuracy_reaches_zero": (
        "An attacker who may change everything must always win. If not, the attack "
        "fails for another reason."
    ),
    "more_steps": ("A longer attack must not be weaker than a shorter one."),
    "iterative_vs_one_step": ("Many steps must not be weaker than one."),
    "black_box_vs_white_box": (
        "An attack that sees only scores must not be stronger than one that sees the "
        "whole model."
    ),
    "transfer_vs_white_box": (
        "Images made for another model must not be stronger than an attack on this one."
    ),
    "decisions_vs_white_box": (
        "An attack that asks only for the predicted class must not be stronger than "
        "one that sees the whole model."
    ),
    "true_gradients": (
        "Do short steps along the gradient do what it promises? Otherwise it is the "
        "gradient of something else."
    ),
    "attacks_find_planted_perturbation": (
        "Where a perturbation exists by construction, do these attacks find it?"
    ),
    "attack_converged": (
        "Would more steps or another start of the strongest attack break more images?"
    ),
    "smooth_loss": (
        "Do tiny steps change the loss so much that its gradient says nothing?"
    ),
    "steady": (
        "Does the model still answer as it did before the attacks, for images alone "
        "and in another order, too?"
    ),
    "settled": (
        "After another check failed, do further attacks still lower the accuracy?"
    ),
    "noise_vs_attack": ("Random noise must not be stronger than an attack."),
    "input_gradients": (
        "Attacks need the gradient of the loss with respect to the pixels; is there "
        "one?"
    ),
    "saturated_logits": (
        "Very sure models give attacks nothing to follow; is this one of them?"
    ),
    "logits_not_probabilities": (
        "Probabilities of exactly 0 and 1 hide how close the other classes are."
    ),
    "finite_logits": (
        "Does the model give numbers for every image that was tried? An image without "
        "them counts as right, not as broken."
    ),
    "deterministic": ("Does the model give the same answer twice?"),
    "no_detector": ("Is there a class that means “this image was attacked”?"),
    "naive_vs_adaptive": (
        "If the attacks that know the defence are far stronger than the naive one, the "
        "defence mostly hides."
    ),
}
