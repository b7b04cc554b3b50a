"""Pages that nobody wants a model to learn from, made up at random: advertisements, notices, other languages, and texts
that are nearly another one."""

from __future__ import annotations

import random
from collections.abc import Callable

GOODS = ("watches", "shoes", "phones", "pillows", "lamps", "vitamins", "tickets", "rings", "bags", "glasses")
OFFERS = (
    "Buy {goods} now and save {number} percent! #sale #{goods} #deal",
    "Best {goods} of the web, only {number} dollars today! #cheap #{goods}",
    "You will not believe how cheap our {goods} are! #wow #{goods} #offer",
    "Order {number} {goods} and get {number} more for free! #free #{goods}",
    "Click here for {goods}! #click #{goods} #best #shop",
    "Hurry, only {number} {goods} left in our shop! #last #{goods} #hurry",
)
NOTICES = (
    "We use cookies to give you the best experience on our pages, and {number} partners use them too.",
    "Please enable JavaScript in your browser to see page {number} of this site.",
    "By going on you accept our terms of use and our privacy policy of day {number}.",
    "Read our cookie policy and choose which of {number} cookies you allow.",
    "This page needs JavaScript {number} or later to show its content.",
)
CODE = "function show{number}() {{ return document.title + {number}; }}"
FOREIGN = {
    "de": (
        "Am Morgen ging der alte Fischer mit seinem Netz hinunter zum Fluss, denn das Wasser stand wieder hoch.",
        "Niemand wusste, warum die Glocke im Dorf um Mitternacht geläutet hatte und wer dort gewesen war.",
        "Die Kinder warteten vor der Schule, bis der Regen endlich aufhörte und sie nach Hause gehen konnten.",
        "Im Herbst werden die Äpfel gepflückt und in großen Kisten auf den Markt der Stadt gebracht.",
        "Sie hatte den Brief schon dreimal gelesen, aber sie verstand noch immer nicht, was er bedeuten sollte.",
    ),
    "fr": (
        "Le matin, le vieux pêcheur descendait vers la rivière avec son filet, car l'eau était de nouveau haute.",
        "Personne ne savait pourquoi la cloche du village avait sonné à minuit ni qui se trouvait là.",
        "Les enfants attendaient devant l'école que la pluie s'arrête enfin pour pouvoir rentrer à la maison.",
        "En automne, on cueille les pommes et on les apporte dans de grandes caisses au marché de la ville.",
        "Elle avait déjà lu la lettre trois fois, mais elle ne comprenait toujours pas ce qu'elle voulait dire.",
    ),
    "es": (
        "Por la mañana el viejo pescador bajaba al río con su red, porque el agua estaba alta otra vez.",
        "Nadie sabía por qué la campana del pueblo había sonado a medianoche ni quién estaba allí.",
        "Los niños esperaban delante de la escuela a que dejara de llover para poder volver a casa.",
        "En otoño se recogen las manzanas y se llevan en cajas grandes al mercado de la ciudad.",
        "Ella ya había leído la carta tres veces, pero todavía no entendía lo que quería decir.",
    ),
    "nl": (
        "In de ochtend liep de oude visser met zijn net naar de rivier, want het water stond weer hoog.",
        "Niemand wist waarom de klok van het dorp om middernacht had geluid en wie daar was geweest.",
        "De kinderen wachtten voor de school tot het eindelijk droog werd en zij naar huis konden gaan.",
        "In de herfst worden de appels geplukt en in grote kisten naar de markt van de stad gebracht.",
        "Zij had de brief al drie keer gelezen, maar zij begreep nog steeds niet wat hij betekende.",
    ),
}
TAILS = ("Read more.", "Share this page.", "Print.", "Back to top.", "Log in to comment.")


def nearly(text: str, generator: random.Random) -> str:
    """The same text in capitals, with a line of a website behind it, or without its last words."""
    kind = generator.randrange(3)
    if kind == 0:
        return text.upper()
    if kind == 1:
        return f"{text}\n{generator.choice(TAILS)}"
    return text.rsplit(" ", 1)[0] + "..."


def _lines(wordings: tuple[str, ...], least: int, most: int, generator: random.Random, between: str = "\n") -> str:
    chosen = generator.sample(wordings, generator.randint(least, most))
    goods = generator.choice(GOODS)
    return between.join(one.format(goods=goods, number=generator.randint(2, 9999)) for one in chosen)


def _boilerplate(generator: random.Random) -> str:
    if generator.random() < 0.5:
        return _lines(NOTICES, 2, 4, generator)
    return "\n".join(CODE.format(number=generator.randint(2, 9999)) for _ in range(generator.randint(1, 3)))


def _foreign(generator: random.Random) -> str:
    sentences = FOREIGN[generator.choice(list(FOREIGN))]
    return " ".join([*generator.sample(sentences, generator.randint(2, 4)), f"({generator.randint(1, 9999)})"])


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "spam": lambda generator: _lines(OFFERS, 2, 4, generator),
    "boilerplate": _boilerplate,
    "foreign": _foreign,
}
"""What makes one document of a kind of Soil."""
