"""--without leaves out fusions by name, and JSON says which were applied."""

PASSAGE = ("ask", "--context", "The mill stands on the river Test.", "--question", "Where does the mill stand?")
INT = ("--target", "customcpu", "--precision", "int")


def test_fusions_are_counted_and_left_out(cli) -> None:
    fused = cli(*INT, "--json", *PASSAGE).json
    plain = cli(*INT, "--without", "packing", "--without", "gelu", "--json", *PASSAGE).json
    assert fused["fused"]["packing"] == 1 and fused["fused"]["gelu"] == fused["fused"]["attention"] == 6
    expected = {**fused["fused"], "feed_forward": 0, "layers": 0}  # which take linears that have their GELU
    del expected["packing"], expected["gelu"]
    assert plain["fused"] == {**expected, "calls": plain["fused"]["calls"]} and fused["fused"]["calls"] == 7
    assert fused["fused"]["feed_forward"] == fused["fused"]["layers"] == 6
    assert plain["answers"][0]["text"] == fused["answers"][0]["text"]


def test_an_unknown_fusion(cli) -> None:
    said = (
        "unknown fusion 'glue'",
        "choose one of: gelu_steps, norm_steps, attention_steps, thirds, rotation, constants, rotary, attention",
    )
    cli(*INT, "--without", "glue", *PASSAGE).fails_in_one_line(2, *said)
