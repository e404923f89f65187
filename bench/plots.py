print("plots: later")
