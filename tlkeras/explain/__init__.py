"""What a network makes of a photo: feature maps and heat maps."""
