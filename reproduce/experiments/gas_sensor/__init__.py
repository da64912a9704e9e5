"""Linear regression by gradient descent: does depth make it faster?"""
