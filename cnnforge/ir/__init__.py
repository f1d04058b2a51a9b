"""The intermediate representation: values, nodes, backward rules, and the checks that hold a graph together."""
