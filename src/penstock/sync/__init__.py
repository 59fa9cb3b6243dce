"""The exchange with Redis, through which instances share their limits; never on the path of a decision."""
