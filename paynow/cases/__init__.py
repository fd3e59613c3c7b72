"""Cases: how urgent one is when it is opened, and what people do to it. They know neither HTTP nor SQL."""
