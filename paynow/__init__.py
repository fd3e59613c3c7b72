"""PayNow: a payment decision service. One question, one durable answer: may this money move?"""

__version__ = "0.1.0"
