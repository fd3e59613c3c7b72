"""`python -m paynow` is the program `paynow`."""

from paynow.cli import main

main(prog_name="paynow")
