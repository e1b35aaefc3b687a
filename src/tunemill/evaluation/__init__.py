"""Answer one question with numbers: is the tuned model better than the base, and better than a few-shot prompt?"""
