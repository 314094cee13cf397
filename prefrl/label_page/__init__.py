"""The web page where people answer: `prefrl label RUN`."""
