"""The field's nouns, formulas and figures: they know nothing of environments or networks."""
