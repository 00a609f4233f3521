"""How good the pick of replicas is: hits and balance on a trace, beside simpler policies and bounds."""
