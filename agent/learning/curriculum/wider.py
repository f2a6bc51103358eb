"""A far wider vocabulary for training goals than the pools of `names` have.

Who learns on sixty file names spells those from habit and misspells the next one; who meets a new name in every goal
has to copy. Some of the words are ordinary ones, others are made of syllables, which nobody can have seen before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from agent.learning.curriculum import names
from agent.learning.curriculum.contents import contents

SHARE = 0.45
"""How often a training goal takes a wider name where a pool has any."""
_MADE = 0.3
"""How many of those are made of syllables."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words(
    """
    acorn airport album alley almond antenna apron arcade arrow atlas attic autumn avenue axle bagel bakery balcony
    ballot bamboo banana banner barber barley barrel basin battery beacon bedroom beetle belfry bench berry bicycle
    billboard biscuit blackbird blizzard blossom boat bonnet boulder bouquet bowl bracelet branch breakfast brewery
    brick brochure brook bubble bucket buffet bundle butterfly button cabin cactus calendar canal canteen caravan
    cardigan carousel carpet carriage carrot cartoon cascade casserole castle cathedral cattle cauldron cedar ceiling
    cellar cello ceramic cereal chalk chapel chapter chariot cherry chestnut chimney chisel cider cinema circus
    clarinet classroom cliff clover coach cobweb coconut collar colony comet compost concert copper coral cottage
    cotton counter cousin crane crater crayon cricket crocus crossing crown crystal cucumber cupboard curtain cushion
    daffodil dagger dairy daisy dancer daughter decade depot dinner diploma dome donkey doorbell dragon drawer dream
    drum duchess dune eagle easel eclipse elbow elevator elm ember emblem emerald envelope errand estuary evening
    exhibit factory farmer fence fern ferry festival fiddle fig firefly fireplace flag flask fleet flint flood florist
    flute fog fortress fossil foundry fountain freighter frigate fruit funnel galaxy gallery gallop gander garage
    garlic garment gazebo geyser ginger glove goblet gondola goose gorge granite grape gravel greenhouse griddle
    grocer guitar gull gutter habit haddock hail hairpin hallway hamlet hammock handle hangar harbinger harness harp
    harvester hatchet hawk hazel headline hearth hedge hermit hickory hillside hinge hobby hockey holly homestead
    horizon hornet horseshoe hospital hostel hurdle hut iceberg icicle inlet insect iris iron ivory ivy jacket jasmine
    jersey jewel jigsaw journey judge juniper kerchief kernel kiosk kite knapsack knight knot laboratory lagoon
    lamppost landmark larch lark laundry lavender leaflet leather lecture ledge legend lever lighthouse lilac limestone
    linen lizard lobster locket loft logbook lottery lounge lumber lunch lute maple marathon marigold mariner
    marsh mask mattress mayor melody melon memoir merchant midnight mill mineral minnow mint mitten moat molecule
    monastery monsoon moss motel mulberry museum mushroom mustard myrtle napkin nectar nephew nest nickel nightfall
    noodle nostril nugget nursery nutmeg oak oasis oatmeal obelisk ocean octopus office olive omelet onion opera orbit
    orchestra organ ornament ostrich outpost oven paddle pagoda painter palace palm pancake panther parade parcel
    parsley passenger pasture patch patio pavilion peach peacock pear pelican pendulum peninsula penny perch perfume
    petal piano picnic pier pigeon pilgrim pillar pilot pine pipeline pistachio pitcher plank plateau platform
    playground plaza plough plum pocket pond poplar poppy porcelain porch portrait postcard potato pottery prairie
    prism propeller pudding puddle pulley pumpkin puppet puzzle pyramid quarry quay quill quilt raccoon radish
    raft railway rainbow raisin ranch raspberry ravine receipt reef refuge relay reptile reservoir restaurant
    rhubarb ridge riddle ripple roadside robe rooftop rosemary rotor rowboat rudder rug runway saffron sail salad
    salmon sandal sapphire satchel sauce sauna sawmill scaffold scarlet scholar scissors scroll sculpture seagull
    seashell sesame shadow shawl shed shelf shepherd shield shipyard shoelace shore shrimp shutter sickle sidewalk
    siren skeleton sketch skyline sled sleeve slipper slope snowfall sofa solstice sonnet soup spade sparrow spice
    spider spinach spire spool spruce squash squirrel stable stadium stairs starling statue steamer steeple stencil
    stork storm stove strawberry stream string studio suitcase sunflower sunrise surf swallow swan sycamore symphony
    syrup tablet tailor tambourine tangerine tapestry tavern teapot telescope terrace theatre thicket thimble thistle
    thread thrush thyme tide timber toast tomato torch tortoise tower tractor trail trellis trombone trophy trout
    trumpet tulip turban turnip turquoise turtle tweed twilight uncle uniform vanilla vault verandah vessel viaduct
    vineyard vinegar voyage waffle wagon waiter walrus wardrobe warehouseman wasp waterfall watermill weasel weather
    wharf wheat wheelbarrow whirlpool whisker widget willow windmill wizard woodland woodpecker wool workshop wreath
    wren yacht yarn yogurt zeppelin zigzag zinc
    """
)
FIRST = _words(
    """
    Aaron Abigail Adrian Agnes Aisha Albert Alma Amina Andrea Angus Anita Anton Arjun Astrid Aurora Barbara Basil
    Bella Bernard Bianca Blanca Bridget Caleb Camila Cecilia Cedric Celeste Chandra Conrad Cora Dagmar Damian Daphne
    Dennis Dolores Dorothea Edgar Elias Eloise Emil Enrique Esther Eugene Fabian Fiona Florence Franz Freya Gabriel
    Gemma Gideon Gloria Graham Gustav Harriet Hector Hilda Hiroshi Ibrahim Ida Imogen Ingrid Isaac Isabel Jasper
    Javier Jerome Joan Joaquin Judith Karim Katrin Kenji Klara Lamar Leila Leonard Lorenzo Louisa Lydia Magnus Malik
    Manuel Marta Matilda Maxime Miriam Moses Naomi Nikolai Noel Octavia Odette Olaf Otto Pablo Pascal Penelope Petra
    Philippa Ramona Rashid Regina Reuben Rhea Roland Roxana Rupert Sabine Salma Selma Silas Simone Stefan Sven Sybil
    Tabitha Tamar Tatiana Thelma Tobias Ulla Valeria Vincent Violet Wilhelm Winston Yvonne Zainab Zelda
    """
)
LAST = _words(
    """
    Abbott Aguilar Alvarez Armstrong Arnaud Baker Baptiste Barros Bauer Bianchi Blum Bonnet Bradley Brooks Caldwell
    Carlsson Castro Chandler Clarke Conti Crawford Dahl Dalton Delgado Demir Dixon Doyle Drummond Eklund Ellis Engel
    Esposito Farrell Faulkner Ferreira Finch Fontaine Fournier Franco Gallagher Gibson Gomes Granger Greco Guerrero
    Hahn Hansen Harper Hayashi Herrera Holm Horvat Huang Hughes Ibanez Iversen Jacobs Janssen Johansson Kaplan Keller
    Kimura Klein Kowalski Krause Lambert Larsen Laurent Leclerc Leone Lindqvist Lowe Lund Maier Malik Mancini Mercer
    Mendes Molina Moretti Murphy Nielsen Nikolov Nyberg Oliveira Ortega Osborne Owens Pereira Peters Pham Pohl Popov
    Quigley Ramos Reyes Richter Romano Roth Sandoval Sato Sauer Schneider Serrano Shah Shepherd Simons Sokolov Soto
    Strand Suzuki Svensson Thorne Torres Toth Tran Turner Vance Vidal Virtanen Wagner Wallace Watanabe Winkler Wright
    Yamada Yates Zhao Ziegler Zimmer
    """
)
CITIES = _words(
    """
    Adelaide Alicante Antwerp Asheville Auckland Baku Bandung Barcelona Bath Beirut Belgrade Bilbao Birmingham Bordeaux
    Boulder Brasilia Bratislava Brisbane Bruges Budapest Calgary Canberra Cardiff Casablanca Chennai Chicago Cologne
    Copenhagen Cordoba Coventry Curitiba Dakar Dallas Dhaka Dortmund Dundee Durban Edinburgh Essen Florence Frankfurt
    Fukuoka Galway Genoa Glasgow Gothenburg Granada Grenoble Guadalajara Haifa Halifax Hamburg Hanoi Havana Helsinki
    Houston Innsbruck Istanbul Jakarta Kampala Karachi Kigali Kobe Kolkata Lausanne Leipzig Lille Limerick Linz
    Liverpool Ljubljana London Lucerne Lusaka Madison Malaga Manchester Manila Marseille Medellin Melbourne Memphis
    Milan Minsk Monterrey Montevideo Mumbai Munich Nagoya Newcastle Nice Norwich Nuremberg Odense Omaha Orlando Ottawa
    Padua Palermo Paris Parma Phoenix Plovdiv Portland Poznan Pretoria Rabat Reykjavik Rome Rostock Rotterdam Salzburg
    Santiago Sapporo Sarajevo Seattle Shanghai Sheffield Skopje Split Stockholm Strasbourg Stuttgart Taipei Tbilisi
    Trieste Trondheim Tucson Tunis Uppsala Vancouver Venice Verona Warsaw Wellington Winnipeg York Zaragoza
    """
)
STEMS = _words(
    """
    absences accounts actions addresses aliases analysis appendix applicants appointments articles assets attendance
    audit awards balances batches benchmarks bids birthdays bookmarks branches briefing brochure bugs calendar calls
    campaign candidates captions cases changelog channels chapters checklist children choices classes claims cleaning
    clubs comments companies complaints concerts config_notes contents contracts contributors copies countries coupons
    courses credits criteria customers_eu deadlines debts decisions definitions details devices diary diet dishes
    documents domains drawings drivers duties edits entries errands essays estimates examples exercises exhibits facts
    families faq features fees figures films findings fixtures flights flowers forecast forms friends funds gallery
    games glossary goalsheet groceries groups guests guidelines handbook headlines history holidays homework hosts
    houses hours ideas incidents ingredients instructions interviews introduction issues itinerary jobs jokes keywords
    languages leads lessons letters limits links loans locations logbook lookup losses machines mailings manual maps
    materials matches meals medals meetings memos menu messages metrics milestones minutes_draft models names needs
    neighbours news numbers objectives offers offices opinions options outline owners packages pages papers parcels
    parents parts passengers patients payroll people permits photos pictures planning plots poems policies posts
    poster presents problems process profiles programme progress proposals protocol purchases_old quotes ranking rates
    ratios recruits references refunds rehearsals releases reminders rentals repairs replies reservations resources
    returns reviews_old rota routes routine rules sample savings scenes script sections seeds services settings_old
    shopping signatures signups sites sketches skills slides snippets sources speakers specs sponsors stages stations
    stories strategy students subjects subscriptions suggestions surveys_old tables talks targets taxes teachers terms
    testers themes theory thoughts timeline timetable titles todo tools topics tours transfers translations trends
    units upcoming updates usage users vacancies values vehicles vendors venues versions volunteers votes vouchers
    wages warranties websites winners wishlist words workers writers
    """
)
KEYS = _words(
    """
    address agent alias alpha api_key archive_dir attempts autosave beta border brightness budget buffer build burst
    capacity caption certificate charset city_code client_id clock codec compression contact contrast country cron
    cutoff debug default depth device dialect domain driver duration edition endpoint engine epoch expires factor
    feed filter flag font frequency gateway grace grid group header history home hour icon idle image index instance
    issuer job kernel key label lanes layout lease license lifetime link listen locale lock log_level logo margin
    mask max_size memory message method min_age mirror model module mount name namespace network nickname node note
    offset option origin output padding page_size palette panel parallel partition passphrase pattern peer period
    phase pin pixel platform plugin policy pool position precision preset priority_class profile project protocol
    provider proxy_url quota radius range rate ratio realm redirect refresh_every release remote replica resolution
    revision role root rotate route sample_rate scale schema scope seed sender shard signature size skin slot snapshot
    socket source speed stage start step storage_class strategy style subject suffix summary_dir sync tag target team
    temperature template tenant tier timezone tone topic trace type unit upstream url username vendor verbosity visible
    wait warehouse_id weight window workspace zone zoom
    """
)
FOLDER_WORDS = _words(
    """
    admin app assets backups board books case-12 chapters client clients course current daily demo desk drafts dropbox
    events family figures finance forms handover holiday home house images incoming invoices_2022 job lab legal lists
    main media meeting minutes-old misc monthly notes-b outbox papers photos plans press private programme public q1 q3
    recipes reference research results sales sample school scripts section spring stage staging stats storage studio
    study summer tables tasks team-b temp texts thesis topic travel trip uploads weekly wiki winter year2 2021 2023
    """
)
_ONSETS = _words("b bl br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sc sh sk sl sp st t tr v w z")
_VOWELS = _words("a e i o u a e i o ai ea ee io ou")
_ENDS = _words("l m n nd nt r rd rk rn s st t x ck d g mb ng th p lk ft ron dis tus mer let ton by dale wick ford")


def _made(rng: random.Random) -> str:
    """A word of two or three syllables that means nothing."""
    body = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 2)))
    return body + rng.choice(_ONSETS) + rng.choice(_VOWELS[:5]) + rng.choice(_ENDS)


def _name(rng: random.Random) -> str:
    return _made(rng).capitalize()


def _stem(rng: random.Random) -> str:
    """A file's name as people make them: cut short, of two words, with capitals or a number; or a made-up word."""
    kind, word = rng.randrange(6), rng.choice(STEMS + NOUNS).replace("_", "")
    if kind == 0:
        return word[: rng.randint(3, 5)] + rng.choice(("", "", "s", "f"))
    if kind == 1:
        return word[0] + "".join(c for c in word[1:] if c not in "aeiou") + rng.choice(("", "s"))
    other = rng.choice(NOUNS)
    if kind == 2:
        return rng.choice((f"{word}_{other}", f"{other}-{word}", f"{word}{other.capitalize()}", f"{word}{other}"))
    if kind == 3:
        return rng.choice((word.upper(), word.capitalize() + other.capitalize(), f"{word}_v{rng.randint(1, 9)}"))
    return _made(rng)


def _untitled(rng: random.Random) -> str:
    return rng.choice(contents("reading", "untitled"))


@cache
def _wider() -> Mapping[Sequence[str], tuple[tuple[str, ...], Callable[[random.Random], str]]]:
    """By pool: more ordinary words, none of them in any pool, and what makes up others."""
    pools = (getattr(names, name) for name in dir(names) if name.isupper())
    taken = {word.lower() for pool in pools for word in pool}
    more = {
        names.STEMS: (STEMS + NOUNS, _stem),
        names.WORDS: (NOUNS, _made),
        names.PRODUCTS: (NOUNS, _made),
        names.CATEGORIES: (NOUNS, _made),
        names.FOLDERS: (FOLDER_WORDS + NOUNS, _made),
        names.SERVICES: (NOUNS, _made),
        names.SETTINGS: (KEYS, _made),
        names.SECTIONS: (KEYS + NOUNS, _made),
        names.FIRST: (FIRST, _name),
        names.LAST: (LAST, _name),
        names.CITIES: (CITIES, _name),
        names.UNTITLED: (contents("reading", "untitled"), _untitled),
    }
    return {pool: (tuple(w for w in words if w.lower() not in taken), made) for pool, (words, made) in more.items()}


def wider(rng: random.Random, pool: object) -> str | None:
    """A name in the place of one of `pool`, or None where that one may stay."""
    if not isinstance(pool, tuple) or pool not in _wider() or rng.random() >= SHARE:
        return None
    words, made = _wider()[pool]
    return made(rng) if rng.random() < _MADE else rng.choice(words)
