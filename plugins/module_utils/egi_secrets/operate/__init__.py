"""What operators do to the running service: give services their identity, hold sites, hand leadership over."""
