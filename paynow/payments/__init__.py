"""The use cases: what PayNow does with payments, one module each. They know neither HTTP nor SQL."""
