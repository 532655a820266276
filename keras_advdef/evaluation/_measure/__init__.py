"""What is measured beside the attacks: curves, nearest images, costs."""
