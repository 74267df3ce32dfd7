"""The table of promo codes: however a code is typed, the last word on it counts, and a deleted one is gone."""

from __future__ import annotations

from pipeline.accounts.promos import Promo, PromoTable, encode_promo


def test_the_last_promo_of_a_code_counts_until_it_is_deleted() -> None:
    table = PromoTable()
    for promo in (Promo("Diwali", 1, 0), Promo("HOLI", 2, 0), Promo("DIWALI", 3, 0)):
        table.add(promo)
    assert table.get(" diwali ") == Promo("DIWALI", 3, 0)
    table.remove(encode_promo(Promo("diwali", 9, 0))[0].decode())
    table.remove("never-there")
    assert table.get("DIWALI") is None and table.get("holi") == Promo("HOLI", 2, 0)
