"""What a run can be told, and what each family of environments starts from."""
