"""What a network sees as a class, and how it is fooled: ideal images and adversarial images."""
