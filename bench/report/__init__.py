"""From what was measured to what is read: pure functions over the results' document, and the files that they end in."""
