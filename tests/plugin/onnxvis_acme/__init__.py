"""Rules for the operators of the domain com.acme."""
