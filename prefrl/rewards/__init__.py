"""r-hat: the networks, the answers they are fitted to, the fit, and a watch over it."""
