"""What lies in this directory, and how does it appear whole or not at all?"""
