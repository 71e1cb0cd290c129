"""Statements about Services that run on a real kernel and say what they saw.

One file per subject.  The tour tells them, the tests run them; a claim is written once, here.
Claims act on a lab through its protocol and never touch a kernel themselves.
"""
