"""The nouns: service, task, node, stack, volume, port, resources; frozen values without behaviour.

*Invariant:* every value is `attrs.frozen(kw_only=True)`, carries its units in its names, and every
field has exactly one writer: users write specs, controllers write desired state and placement,
agents write observed state.
Deliberately absent: decisions (`control`), I/O, how values are encoded (`codec`).
"""
