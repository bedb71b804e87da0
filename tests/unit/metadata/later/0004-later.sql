-- What a later release might add.
CREATE TABLE later_table (
  id {ID},
  note TEXT NOT NULL
) {STRICT};
