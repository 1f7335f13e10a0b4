"""The built-in passage, its sentences, and the questions that are asked on it where nobody types one."""

STORY = (
    "In the winter of 1911 Mara Lindqvist, a lighthouse keeper's daughter from the island of Hallö, repaired the "
    "great lamp of the Hallö lighthouse with the mainspring of her grandfather's clock. The storm had broken the "
    "lamp's own clockwork at four in the afternoon, and her father lay ill with a fever. For eleven hours she wound "
    "the spring by hand every twenty minutes. At dawn the steamer Aurora, which carried 214 emigrants from Gothenburg "
    "to Hull, passed the reef without harm. The captain, Johan Berg, learned of the repair only in spring, and sent "
    "her a brass sextant. She later studied engineering in Stockholm and designed rotating lenses that were used in "
    "nineteen lighthouses along the Baltic coast."
)

SENTENCES = [f"{sentence.rstrip('.')}." for sentence in STORY.split(". ")]

QUESTIONS = (
    "Who repaired the lamp of the lighthouse?",
    "What was the name of the captain?",
    "For how long did she wind the spring?",
    "How many emigrants did the Aurora carry?",
    "What did the captain send her?",
    "Where did she study engineering?",
    "Which team won the football championship?",
)
