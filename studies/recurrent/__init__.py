"""The study of noise on the initial state of recurrent networks: does it help, and is its penalty what helps?"""
