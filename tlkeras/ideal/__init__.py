"""What a network sees as a class, a channel or a layer: ideal images, made from noise by gradient ascent."""
