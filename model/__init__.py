"""Networks: tensors in, tensors out. Imports nothing of the project but itself."""
