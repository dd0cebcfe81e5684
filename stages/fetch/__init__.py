"""The fetch stage: download or generate the images, verify them, split them."""
