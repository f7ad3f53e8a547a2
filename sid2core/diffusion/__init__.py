"""The method: from schedule to samplers and guidance, as pure functions."""
